"""Plans from a trained model, and episodes that execute them."""
