"""What commands share: options, output, progress, errors, running a job."""
