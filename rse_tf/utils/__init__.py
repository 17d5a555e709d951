"""What every room may use: the contract of classifiers, and checks of arguments."""
