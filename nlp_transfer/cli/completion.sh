# Completion of nlp-transfer: commands, flags and their values, KEY=VALUE and files.
_nlp_transfer() {
  local line="${COMP_LINE:0:$COMP_POINT}" IFS=$'\n'
  local word="${line##* }" words=""
  if [ "$COMP_CWORD" -le 1 ]; then
    words='@COMMANDS@ --help --version'
  else
    case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD - 1]}" in
    @VALUES@
    *)
      case "${COMP_WORDS[1]}" in
      @CASES@
      esac
      # Flags where one is begun; else what may stand there, and files.
      case "$word" in -*) ;; *) words=" $words"; words="${words%% --*}" ;; esac
      ;;
    esac
  fi
  COMPREPLY=($(compgen -W "${words// /$'\n'}" -- "$word"))
  if [ "${#COMPREPLY[@]}" -eq 0 ] || [ "${COMPREPLY[*]}" = "$word" ]; then
    # A file, also behind KEY=.
    COMPREPLY=($(compgen -f -- "${word##*=}"))
    [ -n "$ZSH_VERSION" ] && case "$word" in *=*) COMPREPLY=("${COMPREPLY[@]/#/${word%=*}=}") ;; esac
    compopt -o filenames 2>/dev/null
  elif [ -z "$ZSH_VERSION" ]; then
    # bash cuts words at "=": only what follows it is completed.
    case "$word" in *=*) COMPREPLY=("${COMPREPLY[@]#*=}") ;; esac
  fi
  case "${COMPREPLY[*]}" in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -F _nlp_transfer nlp-transfer
