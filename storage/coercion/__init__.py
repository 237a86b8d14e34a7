"""What an AE title's policy makes of what it receives: rules, and the data set written anew where they change it."""
