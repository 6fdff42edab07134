"""Many runs: what is to be done, what it will cost, and doing it, on one machine or several."""
