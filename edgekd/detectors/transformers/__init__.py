"""Teachers of Hugging Face transformers, from local folders."""
