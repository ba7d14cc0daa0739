"""What jobs share that change a trained model in stages, with fine-tuning after each: record, job, page."""
