# To be sourced: commands with a time limit, which end together with the script that runs them. `timeout` alone puts each into a process group
# of its own, where neither the terminal's Ctrl-C nor a signal for the script reaches it.
#   limited SECONDS COMMAND...     the command's exit code; 124 when its time is up
end_jobs() {
  local jobs
  jobs=$(jobs -p)
  # shellcheck disable=SC2086
  [ -z "$jobs" ] || { kill $jobs 2> /dev/null; wait; }
  exit 143
}
trap end_jobs TERM INT

limited() {
  trap end_jobs TERM INT  # A subshell has lost it.
  timeout -k 60 "$@" &
  wait $!
}
