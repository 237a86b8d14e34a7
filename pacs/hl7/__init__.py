"""HL7 v2 orders over MLLP: what a hospital's information system schedules becomes entries of the modality worklist.

`framing` takes messages out of a stream, `messages` reads one and writes its acknowledgement, `orders` says what it asks for;
these are pure. `receiving` does it, `listener` listens.
"""
