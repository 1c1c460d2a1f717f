"""From a cell of a table, or any file of the results, back to the FITS files it was made from."""
