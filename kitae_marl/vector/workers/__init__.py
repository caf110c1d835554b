"""Worker processes: started, spoken to, watched and replaced."""
