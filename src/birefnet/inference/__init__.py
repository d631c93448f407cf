"""From a network and a picture to its matte: the predictor, its stream, guidance, and engines."""
