module workspace-operator/bench/agents

go 1.24.0
