"""DICOM in: a tree of files in any order becomes volumes with their place in space, and every file gets a verdict.

Of a file nothing but pixels, geometry and the kind of sequence goes on: names, dates, descriptions, private groups and
overlays have no way into the store. Ids decide what belongs together and are then hashed.
"""
