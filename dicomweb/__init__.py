"""DICOMweb: QIDO-RS, WADO-RS and STOW-RS over the same archive that DIMSE writes to."""
