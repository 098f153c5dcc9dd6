"""The custom resources: pydantic models of what people write, and what is made from them (conditions, CRDs, reference).

The first stage of the flow: a Kubernetes object as data comes in, a typed resource or an `InvalidSpec` goes out. Pure.
"""
