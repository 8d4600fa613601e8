"""A rendered clip with known truth: a textured head that moves, looks, blinks and speaks before a background.

`spec` says what to make, `portrait` and `paint` make the head's texture from a photograph, `motion` its movement,
`scene` the pictures, `truth` the record that a track is measured against.
"""
