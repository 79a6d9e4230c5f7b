"""How well the routers do on real labeled items, answered by real trained models: see `__main__`."""
