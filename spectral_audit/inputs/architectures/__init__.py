"""Who builds the model that the weights belong to, and whether they fit."""
