//! Householder reflections of the channels of every pixel, in one pass.
