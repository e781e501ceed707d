"""minidl on a GPU beside PyTorch with cuDNN, and beside what the card can do: see `__main__`."""
