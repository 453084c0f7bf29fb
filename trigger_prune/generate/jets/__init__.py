"""Jets of five classes: clustering, grooming, 16 features, production with Pythia."""
