"""`make bench`: Lightbox beside Orthanc under the same load, in the same run, as a table of ratios.

made      synthetic instances (no patient's), written once into `bench-data/`
servers   the two servers as processes: start, stop, wipe
meter     CPU seconds and peak memory of a server's process tree, and the load of others meanwhile
clients   what asks: DCMTK's tools, wrk, curl, and small HTTP clients of our own
workloads the table of what is measured
growth    `make bench-growth`: the index alone, against the number of studies
report    medians, ratios, the page and its plot
"""
