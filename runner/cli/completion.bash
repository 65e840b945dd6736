# bash completion for runner
_runner() {
  local word=${COMP_WORDS[COMP_CWORD]} verb= i
  local verbs="run exec code attach cp watch expose wait ls inspect logs stop rm prune rename volume top snapshot restore fork standby suspend wake job plan policy check create start state kill delete list events ps pause resume update checkpoint spec features install"
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --root | --log | --log-format | --criu | --rootless | --cgroup-manager) i=$((i + 1)) ;;
      -*) ;;
      *) verb=${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ -z $verb ]]; then
    COMPREPLY=($(compgen -W "$verbs --root --log --log-format --help --version" -- "$word"))
  elif [[ $word == -* ]]; then
    [[ ( $verb == snapshot || $verb == job ) && $i -lt $((COMP_CWORD - 1)) ]] && verb="$verb ${COMP_WORDS[i + 1]}"
    COMPREPLY=($(compgen -W "$(runner $verb --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$word"))
  else
    case $verb in
      inspect | logs | rm | rename) COMPREPLY=($(compgen -W "$(runner ls -aq 2>/dev/null)" -- "$word")) ;;
      attach | code | stop | top | watch | expose | wait) COMPREPLY=($(compgen -W "$(runner ls -q 2>/dev/null)" -- "$word")) ;;
      exec | state | start | kill | delete | events | ps | pause | resume | update | checkpoint) COMPREPLY=($(compgen -W "$(runner list -q 2>/dev/null)" -- "$word")) ;;
      snapshot)
        if ((COMP_CWORD == i + 1)); then
          COMPREPLY=($(compgen -W "$(runner snapshot --help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')" -- "$word"))
        elif [[ ${COMP_WORDS[i + 1]} == import ]]; then
          COMPREPLY=($(compgen -f -- "$word"))
        else
          COMPREPLY=($(compgen -W "$(runner snapshot ls -q 2>/dev/null)" -- "$word"))
        fi ;;
      job)
        if ((COMP_CWORD == i + 1)); then COMPREPLY=($(compgen -W "run continue warm lock fork resume-from replay list show events cancel rm" -- "$word"))
        elif [[ ${COMP_WORDS[i + 1]} == @(run|warm|lock) ]]; then COMPREPLY=($(compgen -f -- "$word"))
        else COMPREPLY=($(compgen -W "$(runner job list -q 2>/dev/null)" -- "$word")); fi ;;
      volume) COMPREPLY=($(compgen -W "ls inspect create rm prune $(runner volume ls -q 2>/dev/null)" -- "$word")) ;;
      policy) COMPREPLY=($(compgen -W "check explain list $(runner policy list 2>/dev/null)" -- "$word")) ;;
      *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
  fi
}
complete -o filenames -F _runner runner
