"""Space `vit`: columnar vision transformers."""
