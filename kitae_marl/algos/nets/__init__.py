"""Networks, action distributions and running normalisation."""
