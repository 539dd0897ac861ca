"""One evaluator for every peer: onnxruntime on the network that its file stands for, and paired differences to float."""

import numpy as np
import onnxruntime

BATCH = 50


def outputs(model, inputs, threads=1):
    """Outputs [N, classes] of an ONNX file (or of its bytes) on inputs [N, ..], in batches, in float32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name, fixed = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else BATCH
    found = [session.run(None, {name: np.ascontiguousarray(inputs[i : i + batch])})[0] for i in range(0, len(inputs), batch)]
    return np.concatenate(found).reshape(len(inputs), -1).astype(np.float32)


def right(found, labels):
    """1 for every input whose largest output (the first of equals) is its label, else 0."""
    return (found.argmax(axis=1) == labels).astype(np.float64)


def divergence(wanted, found):
    """Mean Kullback-Leibler divergence, in nats, of the second outputs from the first: logits or, as after a softmax, probabilities."""
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)

    def logarithms(x):
        if wanted.min() >= 0 and np.abs(wanted.sum(axis=1) - 1).max() < 1e-3:
            return np.log(np.maximum(x, 1e-12))
        x = x - x.max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    p, q = logarithms(wanted), logarithms(found)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def paired(one, other):
    """Mean difference in points of two arrays of hits on the same images, and its standard error."""
    difference = one - other
    return 100 * difference.mean(), 100 * difference.std(ddof=1) / np.sqrt(len(difference))
