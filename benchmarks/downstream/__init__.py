"""Tables 3 and 6 of the paper, with data and models that are at hand: what training on the exports reaches."""
