"""Who acts and does not learn: trained policies, random ones, scripted ones."""
