"""The commands of kalec, a file for each: options are declared beside what they do. Nothing heavy is imported up here."""
