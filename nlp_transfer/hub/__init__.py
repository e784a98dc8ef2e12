"""Uploads an exported folder to the Hugging Face Hub."""
