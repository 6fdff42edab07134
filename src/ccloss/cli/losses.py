"""``ccloss losses``."""


def losses() -> None:
    """List the losses with formula, source, required inputs and options."""
    from ccloss.losses import LOSSES, PML_PREFIX, describe

    for name in LOSSES:
        about = describe(name)
        options = [f"{key} {value}" for key, value in about.options.items()]
        needs = ["unit class weights"] if LOSSES[name].unit_classifier else []
        needs += sorted(need.replace("_", " ") for need in about.needs - {"classifier_weight"})
        print(f"{name}\n    {about.formula}\n    {about.source}")
        print(f"    needs: {', '.join(needs) or 'logits alone'}")
        print(f"    options: {', '.join(options)}")
    print(f"{PML_PREFIX}NAME\n    CE + weight * a loss of pytorch-metric-learning on the features")
