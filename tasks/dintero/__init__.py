"""Asks: Dintero's API, its wire types and its errors. Keeps nothing and decides nothing."""
