"""Where blobs live. A store is dumb: it knows no chunks, no versions, no retries."""
