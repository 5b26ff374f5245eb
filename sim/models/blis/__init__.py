"""The rooflines of BLIS up to August 2026, for its files; nothing here is fitted."""
