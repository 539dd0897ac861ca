//! Runs and differentiates graphs on the CPU, with masked SGD.
