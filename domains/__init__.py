"""What a kind of data is: read, check, show, judge. One folder a domain."""
