"""Support of train_predictors.py: k-fold cross-validation of predictors."""
