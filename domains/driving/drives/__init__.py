"""Generated drives: a small simulator of roads seen by a dashcam, with exact lanes, boxes, classes and ego-motion."""
