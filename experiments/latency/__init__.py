"""How fast a predictor is inverted, measured in processes of their own."""
