"""The codelength: learners, their mixture, and the prequential loop."""
