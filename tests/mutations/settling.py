"""Mistakes in rules that settle: predictive coding, errors optimised, direct predictive coding."""

from mutations.base import TRANSPORTS, mistakes

PREDICTIVE_CODING = mistakes(
    "pc",
    TRANSPORTS + "predictive_coding.py",
    ("for _ in range(self.steps):", "for _ in range(self.steps - 1):", "one fixed-prediction step fewer"),
    ("for step in range(self.steps):", "for step in range(self.steps - 1):", "one step fewer"),
    ("if not incremental or step < self.steps - 1:", "if not incremental:", "ipc: predictions of the first step"),
    ("torch.sub(values[name], e, alpha=rate)", "torch.sub(values[name], e, alpha=1)", "leak without the rate"),
    ("torch.sub(values[name], e, alpha=rate)", "torch.add(values[name], e, alpha=rate)", "errors grow by themselves"),
    (
        "somatic = state.site(name).somatic(error) if carrying else error",
        "somatic = state.site(name).at_neurons(error) if carrying else error",
        "gate left out on the way down",
    ),
    (
        "state.transport_onto(base, pathway, somatic, rate,",
        "state.transport_onto(base, pathway, somatic, 1.0,",
        "transport without the rate",
    ),
    (
        "state.transport_onto(base, pathway, somatic, rate,",
        "state.transport_onto(base, pathway, somatic, -rate,",
        "wrong sign of transport",
    ),
    ("base, mine = relaxed[pathway.pre],", "base, mine = values[pathway.pre],", "the leak lost"),
    (
        "state.site(name).somatic_at(arrived[name], value)",
        "state.site(name).somatic(arrived[name])",
        "drives: the gate of the prediction, not of the value",
    ),
    (
        "state.site(name).somatic_at(arrived[name], value) - errors[name]",
        "state.site(name).somatic_at(arrived[name], value) + errors[name]",
        "drives: wrong sign of the error",
    ),
    ("state.site(name).somatic_at(arrived[name], value) -", "arrived[name] -", "drives: gate left out"),
    ("relaxed[name] = value + rate * pull", "relaxed[name] = value + pull", "drives: rate left out"),
    ("v - state.site(name).activity for", "state.site(name).activity - v for", "error of the wrong sign"),
    ("v - state.site(name).drive for", "v - state.site(name).drive / 2 for", "drives: half of the prediction"),
    ("_relaxed(state, errors, values, rate=1.0)", "_relaxed(state, errors, values, rate=0.5)", "z-il at half the rate"),
    # Equivalent: z-il with predictions of the first step; a population's error is kept before its prediction has moved.
    (
        "            kept[name] = errors[name]\n            values = self._relaxed(state, errors, values, rate=1.0)\n",
        "            values = self._relaxed(state, errors, values, rate=1.0)\n            kept[name] = errors[name]\n"
        "            kept |= {n: values[n] - state.site(n).activity for n in [name] if n in values}\n",
        "z-il: the error one step later",
    ),
    ("            kept[name] = errors[name]\n", "            kept = errors\n", "z-il: every error at the last step"),
    ("{state.top: top}", "{state.top: 2 * top}", "error of the top twice"),
    (
        "{name: scope.site(name).response_to(v) for name, v in values.items()} if self.before else values",
        "values",
        "drives: sent without the nonlinearity",
    ),
    ("/ (2 * len(errors[state.top]))", "/ len(errors[state.top])", "1 / 2 left out of the energy"),
    (
        "errors = self._watched(state, moment, self._errors(state, moment, values), energies)\n"
        "                yield state.settled(",
        "yield state.settled(",
        "errors of the last step but one",
    ),
    (
        "energies)\n                yield state.settled(errors, noted(energies), at_soma=self.before)",
        "energies)\n                yield scope.settled(errors, noted(energies), at_soma=self.before)",
        "presynaptic values and gates of the sweep",
    ),
    (
        "errors.update(self._relaxed(scope, errors, below, self.rate))",
        "errors.update(self._relaxed(scope, errors, below, self.rate / 2))",
        "fixed predictions at half the rate",
    ),
    (
        "error if self.before else None, feedback",
        "site.somatic(error) if self.before else None, feedback",
        "drives: change gated",
    ),
)

ERROR_OPTIMISED = mistakes(
    "epc",
    TRANSPORTS + "error_optimised.py",
    ("for _ in range(self.steps):", "for _ in range(self.steps - 1):", "one step fewer"),
    ("(slopes[name] - e) if", "(slopes[name] + e) if", "errors grow by themselves"),
    ("(slopes[name] - e) if", "slopes[name] if", "leak left out"),
    ("e + self.rate * (slopes", "self.rate * (slopes", "errors forgotten at every step"),
    ("e + self.rate * (slopes[name] - e)", "e + slopes[name] - e", "rate left out"),
    ("state = scope.perturb(errors)", "state = scope", "slopes of the first sweep"),
    (
        "top = self.top_credit(state, moment).activity",
        "top = self.top_credit(scope, moment).activity",
        "error of the top from the first sweep",
    ),
    ("yield state.settled(", "yield scope.settled(", "presynaptic values and gates of the first sweep"),
    ("(g := credit.activity) is not None", "(g := credit.somatic) is not None", "gated slopes"),
    (
        "state = scope.perturb(errors)",
        "state = scope.perturb({name: -e for name, e in errors.items()})",
        "errors subtracted",
    ),
    ("errors | {scope.top: top}, energies", "errors | {scope.top: self.rate * top}, energies", "rate at the top, too"),
    ("for _ in range(self.steps):", "for _ in range(self.steps + 1):", "one step more"),
    (
        "for name, credit in self._slopes(state, moment)",
        "for name, credit in self._slopes(scope, moment)",
        "slopes at the first sweep",
    ),
) + mistakes(
    "epc",
    "dynamics/sweep.py",
    ("source[name] = source[name] + errors[name]", "source[name] = errors[name]", "the errors sent without the activity"),
)

DIRECT_PREDICTIVE = mistakes(
    "dfa-pc",
    TRANSPORTS + "direct_predictive.py",
    ("mu + scope.broadcast(error, name)", "mu - scope.broadcast(error, name)", "wrong sign at the beginning"),
    ("mu + scope.broadcast(error, name)", "mu", "begins as predictive coding"),
    ("mu + scope.broadcast(error, name)", "scope.broadcast(error, name)", "prediction left out at the beginning"),
    ("drive = rate * self.kappa", "drive = self.kappa", "rate left out of the drive"),
    ("v + drive * state.broadcast", "v - drive * state.broadcast", "wrong sign of the drive"),
    ("return scope.predict(values), values", "return scope, values", "first errors from the sweep without values"),
    (
        "site.error - scope.broadcast(error, population)",
        "site.error + scope.broadcast(error, population)",
        "B learns what it has sent",
    ),
    ("site.error - scope.broadcast(error, population)", "site.error", "B learns without end"),
    (
        'missed = site.feedback(f"{scope.top}=>{population}"), site.error',
        'missed = site.feedback(f"{scope.top}=>{population}"), -site.error',
        "B unlearns",
    ),
    ("steps: int = 6", "steps: int = 5", "one step fewer by default"),
    ("super().__init__(objective, rate=rate, schedule", "super().__init__(objective, schedule", "rate ignored"),
    ("return {name: v + drive", "return {name: values[name] + drive", "nothing but the drive settles"),
    ("if not self.kappa:", "if self.kappa:", "kappa ignored"),
    (
        "direct.error_signal(error), direct.at_dendrite(missed)",
        "direct.error_signal(error) / len(error), direct.at_dendrite(missed)",
        "1 / rows twice in B's change",
    ),
    (
        "        error = self._top_error(scope, moment)\n        values",
        "        error = -self._top_error(scope, moment)\n        values",
        "wrong sign of the first error",
    ),
    (
        "return sent | {scope.top: error}",
        "return {name: 0 * e for name, e in sent.items()} | {scope.top: error}",
        "held errors begin at 0",
    ),
    (
        "return sent | {scope.top: error}",
        "return {name: -e for name, e in sent.items()} | {scope.top: error}",
        "wrong sign of the held errors at the beginning",
    ),
    ("rate=rate, schedule=schedule)", "rate=rate)", "predictions move where they are to be held"),
)
