"""What teaches: the living listing, and where two models part. Nothing outside this folder knows of it but the command line."""

from .listing.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
