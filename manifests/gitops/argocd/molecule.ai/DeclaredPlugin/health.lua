-- Health of a Workspace and of a DeclaredPlugin (the two files are the same). Order: what the object says of an older spec is not believed;
-- Terminating and suspended first; then Ready; a failure that is retried is Progressing until Stalled says that a person is needed, but a box that
-- is gone, failed or reports errors is Degraded, and so is an External one whose agent has fallen silent.
local health = {status = "Progressing", message = "waiting for the workspace operator"}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted"
  return health
end
local status = obj.status
if status == nil or status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready = found.Ready
if ready == nil then
  return health
end
health.message = ready.message
if health.message == nil or health.message == "" then
  health.message = ready.reason
end

local function is_true(name)
  return found[name] ~= nil and found[name].status == "True"
end
local down = {Failed = true, Degraded = true, Offline = true}
local agent = found.AgentReporting
local silent = status.state == "AwaitingAgent" and agent ~= nil and agent.status == "False" and agent.reason == "HeartbeatStale"
if obj.spec.suspend == true then
  health.status = "Suspended"
elseif is_true("Stalled") then
  health.status = "Degraded"
elseif ready.status == "True" then
  health.status = "Healthy"
elseif down[status.state] or silent then
  health.status = "Degraded"
end
return health
