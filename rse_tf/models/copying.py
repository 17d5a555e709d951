"""Copies of any Keras model, with every state it has."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from rse_tf.models.averaged_ensemble import AveragedEnsemble
from rse_tf.models.comparison import assert_same_outputs
from rse_tf.models.self_ensemble import SelfEnsemble


class Copier:
    """Copies models layer by layer; a layer that several models share is copied once.

    The layers of a Functional or Sequential model are copied one by one. Everything else is made
    anew from its `get_config`; nothing has to be registered for that, as the classes and
    functions are those of the original. A copy is not compiled.

    Args:
        caller: what the messages of errors start with.
        layer_before: called with every layer that a Functional or Sequential model calls, in
            the order of the calls. Returns a new layer that the copy calls before that layer,
            or `None`. Default: the copy has the layers of the original and no others.
    """

    def __init__(
        self, caller: str, layer_before: Callable[[Any], keras.layers.Layer | None] | None = None
    ) -> None:
        self._caller = caller
        self._layer_before = layer_before or (lambda layer: None)
        # The originals are held as well, so that no other layer gets the id of one.
        self._copies: dict[int, tuple[Any, Any]] = {}

    def copy(self, layer: Any) -> Any:
        """Copies a layer, a model or an operation, still without its state.

        Raises:
            ValueError: if it does not say how to make another one like it.
        """
        if id(layer) not in self._copies:
            copy = self._copy_graph(layer) if is_graph(layer) else self._copy_by_config(layer)
            self._copies[id(layer)] = (layer, copy)
        return self._copies[id(layer)][1]

    def copy_state(self, random_streams: bool) -> None:
        """Gives the copies all that Keras would save of the originals.

        This is more than weights: the statistics of an adapted `Normalization` or the
        vocabulary of a lookup, for example. Which layers are trainable is copied as well.

        Args:
            random_streams: whether the seed generators, which Keras does not save, also get
                the state of their originals.
        """
        # Models before their layers: making a model trainable does the same to its layers.
        for layer, copy in reversed(self._pairs()):
            copy.trainable = layer.trainable
        for layer, copy in self._pairs():
            if is_graph(layer):
                continue  # its layers are pairs of their own
            parts = self._parts(layer, copy)
            for mine, other in parts:
                other.trainable = mine.trainable
            for mine, other in parts:
                _copy_own_state(mine, other)
                if random_streams:
                    _copy_random_streams(mine, other)

    def check(self, model: keras.Model, copy: keras.Model, inputs: Any) -> None:
        """Compares the outputs of a model and of its copy, with the same random streams.

        Both are left in the state they had.

        Args:
            model: the original.
            copy: its copy, from which the caller has taken whatever is meant to differ.
            inputs: one shape and dtype (`keras.KerasTensor`), or a structure of them.

        Raises:
            ValueError: if the outputs differ by more than rounding.
        """

        def same_streams() -> None:
            for layer, other in self._pairs():
                if not is_graph(layer):
                    for mine, its in self._parts(layer, other):
                        _copy_random_streams(mine, its)

        assert_same_outputs(self._caller, model, copy, inputs, before=same_streams)

    def _pairs(self) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
        # Operations such as a sum of two tensors have no state.
        return [pair for pair in self._copies.values() if isinstance(pair[0], keras.layers.Layer)]

    def _parts(
        self, layer: keras.layers.Layer, copy: keras.layers.Layer
    ) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
        """A layer and the layers inside it that were copied along with it, each with its copy."""
        pairs = self._copies.values()
        mine = _together(layer, {id(one) for one, _ in pairs})
        others = _together(copy, {id(one) for _, one in pairs})
        if [type(part) for part in mine] != [type(part) for part in others]:
            raise ValueError(
                f"{self._caller}: a layer made from the get_config of another must have the same "
                f"layers inside. Received: {layer.name!r} of type {type(layer).__name__}, which "
                f"has {len(mine) - 1} where its copy has {len(others) - 1}; make its from_config "
                "build all of them"
            )
        return list(zip(mine, others))

    def _copy_graph(self, model: Any) -> Any:
        if isinstance(model, keras.Sequential):
            copy = self._copy_sequential(model)
        else:
            # A model of the same tensors that was never compiled: Keras would look for the
            # loss and the metrics of the original by their names.
            graph = keras.Model(model.input, model.output, name=model.name)
            copy = keras.models.clone_model(
                graph, clone_function=self.copy, call_function=self._call
            )
            if _takes_a_graph(type(model)):
                copy = type(model)(copy.input, copy.output, name=model.name)
        if copy.dtype_policy != model.dtype_policy:
            copy.dtype_policy = model.dtype_policy
        return copy

    def _copy_sequential(self, model: keras.Sequential) -> keras.Sequential:
        inputs = model.inputs[0]
        layers = [keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype, name=inputs.name)]
        for layer in model.layers:
            before = self._layer_before(layer)
            layers += [self.copy(layer)] if before is None else [before, self.copy(layer)]
        return keras.Sequential(layers, name=model.name)

    def _call(self, copy: Any, *args: Any, **kwargs: Any) -> Any:
        before = self._layer_before(copy)
        if before is not None and args:
            args = (before(args[0]), *args[1:])
        elif before is not None:
            kwargs["inputs"] = before(kwargs["inputs"])
        return copy(*args, **kwargs)

    def _copy_by_config(self, layer: Any) -> Any:
        kind = type(layer)
        try:
            config = _config(layer)
        except NotImplementedError as error:
            raise self._not_copied(layer, error) from error
        objects = self._objects(layer, config)
        try:
            with keras.saving.custom_object_scope(_custom_objects(layer)):
                if objects:
                    return kind(**{**config, **objects})
                return kind.from_config(config)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise self._not_copied(layer, error) from error

    def _not_copied(self, layer: Any, error: Exception) -> ValueError:
        return ValueError(
            f"{self._caller}: every layer must have a get_config and a from_config that make "
            f"another one like it. Received: {layer.name!r} of type {type(layer).__name__}, which "
            f"failed with: {error}"
        )

    def _objects(self, layer: Any, config: dict[str, Any]) -> dict[str, Any]:
        """The arguments that are functions or layers: the functions themselves, copied layers.

        A configuration has them in words, and Keras reads no lambda again.
        """
        if type(layer).from_config.__module__.split(".")[0] not in ("keras", "rse_tf"):
            return {}  # it may want the words
        found: dict[str, Any] = {}
        attributes = vars(layer)
        for key, value in config.items():
            original = attributes.get(key, attributes.get(f"_{key}"))
            if inspect.isfunction(original):
                if not _is_from_keras(original):
                    found[key] = original
            elif isinstance(layer, (keras.layers.Wrapper, AveragedEnsemble, SelfEnsemble)):
                if isinstance(original, keras.layers.Layer):
                    found[key] = self.copy(original)
                elif key == "members":
                    found[key] = [self.copy(member) for member in original]
        if isinstance(layer, keras.layers.Lambda):
            found["arguments"] = dict(layer.arguments)
        return found


def is_graph(layer: Any) -> bool:
    """Whether a layer is a model that does what its graph of layers says, and nothing else."""
    if isinstance(layer, keras.Sequential):
        return _has_keras_call(layer) and getattr(layer, "_functional", None) is not None
    return hasattr(layer, "operations") and _has_keras_call(layer)


def input_specs(model: keras.Model) -> Any:
    """The inputs of a Functional or Sequential model, in the structure that it takes."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _has_keras_call(model: keras.Model) -> bool:
    return _is_from_keras(type(model).call)


def _is_from_keras(item: Any) -> bool:
    return item.__module__.split(".")[0] == "keras"


def _takes_a_graph(kind: type) -> bool:
    """Whether a class is made as `keras.Model(inputs, outputs)` is, and yet another one."""
    if _is_from_keras(kind):
        return False
    arguments = inspect.signature(kind).parameters
    kinds = {argument.kind for argument in arguments.values()}
    anything = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return list(arguments)[:3] == ["inputs", "outputs", "name"] or anything <= kinds


def _config(layer: Any) -> dict[str, Any]:
    """A layer's configuration, without what Keras adds and the layer's class does not take."""
    config, arguments = layer.get_config(), inspect.signature(type(layer)).parameters
    kinds = {argument.kind for argument in arguments.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds or not _is_from_keras(type(layer).get_config):
        return config
    added = {"name", "trainable", "dtype"} - set(arguments)
    return {key: value for key, value in config.items() if key not in added}


def _custom_objects(layer: Any) -> dict[str, Any]:
    """The classes and functions in a layer that are not Keras' own, by the name Keras gives."""
    parts = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else [layer]
    found: dict[str, Any] = {}
    for part in parts:
        for value in (part, *vars(part).values()):
            if not inspect.isfunction(value):
                value = type(value)
                if not hasattr(value, "get_config"):
                    continue
            if not _is_from_keras(value):
                found[keras.saving.get_registered_name(value)] = value
    return found


def _together(layer: keras.layers.Layer, without: set[int]) -> list[keras.layers.Layer]:
    """A layer and the layers inside it, parents first, except for those of some ids."""
    inside = layer._flatten_layers(include_self=False, recursive=False)
    return [layer] + [
        part for one in inside if id(one) not in without for part in _together(one, without)
    ]


def _copy_own_state(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """The state that a `.keras` file stores for a layer, without its inner layers."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(
        {name: tf.convert_to_tensor(value).numpy() for name, value in store.items()}
    )
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
    # Single variables can be frozen, too.
    for mine, other in zip(layer.weights, copy.weights):
        if mine.trainable != other.trainable:
            other.trainable = mine.trainable


def _copy_random_streams(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    for mine, other in zip(_generators(layer), _generators(copy)):
        other.state.assign(mine.state)


def _generators(layer: keras.layers.Layer) -> Sequence[keras.random.SeedGenerator]:
    return layer._seed_generators  # Keras lists them nowhere in public
