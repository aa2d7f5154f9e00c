"""A pipeline as Kubernetes takes it: KFP v2 IR with its platform document, Katib Experiments, InferenceServices."""
