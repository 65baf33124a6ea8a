"""The nouns: frozen dataclasses and enums that the layers above hand to each other."""
