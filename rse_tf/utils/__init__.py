"""Tools for all rooms: the contract of classifiers, checks of arguments, files, log."""
