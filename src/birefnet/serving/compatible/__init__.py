"""Routes that clients of other services speak: rembg, fal.ai, remove.bg and OpenAI.

Each module is one family: its paths, its names of fields, its form of errors. What they promise was
read from the services' own documentation, named at the head of each module.
"""
