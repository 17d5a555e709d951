"""Speed and strength of rse_tf beside the bare network and beside other libraries.

Run from the checkout, with `pip install -e '.[benchmarks]'`:

    python -m benchmarks.attacks --output attacks.json
    python -m benchmarks.reference --only 'full/*' --output reference.json
    python -m benchmarks.models --only 'noise_*' --output models.json
"""
