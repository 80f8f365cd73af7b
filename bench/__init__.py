"""Load, measurement and comparison: what the documents quote is printed from here."""
