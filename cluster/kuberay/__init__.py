"""RayJob manifests for Kubernetes."""
