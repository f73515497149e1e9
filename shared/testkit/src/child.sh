# Plays an MCP server on stdin and stdout for tests; nothing but sh is needed.
#   sh -c "$SCRIPT" child FOLDER [TRAIT..]
# FOLDER/log hears `start PID`, `call ID ARGUMENTS`, `cancelled`, `end`. Traits:
#   speaks: modern, dies-at-discover, dies-at-first-discover (the first process alone), spoilt-by-discover (refuses `initialize` after it),
#           muted-by-discover (answers nothing after it), mute-at-discover, late-at-discover (answers it only when asked to initialize), slow (its first answer waits for FOLDER/go), banner
#   starts: chatty (seven lines on stderr, first of all), crash-at-start (exit 3), crash-at-start-while-broken (the same while there is FOLDER/broken), never-reads
#   calls:  works (for a moment), crash, internal-error, garbage, giant, giant-answer (its id first), giant-answer-id-last, giant-word, log-json, log-brace, string-id, pretty,
#           latin1, nan (what JSON does not know), surrogate, batch, twice, wrong-id, no-id, error-no-id, close-stdout, hang, chatty-hang (seven lines on stderr before), hang-once, stops-reading, reorder (answers the second of two calls
#           first), progress, asks (sends requests of its own first), echo-env (answers with its environment)
#   ends:   ignores-term, grandchild (leaves `sleep` behind, its number in FOLDER/grandchild)
# The calls of FOLDER/next, one a line, have that trait besides; the process that takes a line removes it.
folder=$1
shift
own=" $* "
traits=$own
calls=0
held=
spoilt=

is() { case $traits in *" $1 "*) return 0 ;; esac; return 1; }
note() { printf '%s\n' "$*" >>"$folder/log"; }
say() { printf '%s\n' "$*"; }
result() { say "{\"jsonrpc\":\"2.0\",\"id\":$1,\"result\":$2}"; }
refuse() { say "{\"jsonrpc\":\"2.0\",\"id\":$1,\"error\":{\"code\":$2,\"message\":\"$3\"}}"; }
text() { result "$1" "{\"content\":[{\"type\":\"text\",\"text\":\"$2\"}]}"; }
# The id is the first member after jsonrpc in what the workers write.
id_of() { id=${1#*\"id\":}; id=${id%%[,\}]*}; }
wait_for() { until [ -e "$folder/$1" ]; do sleep 0.02; done; }

call() {
    arguments=${line#*\"arguments\":}
    arguments=${arguments%%\}*}\}
    note "call $id $arguments"
    calls=$((calls + 1))
    traits=$own
    [ -s "$folder/next" ] && {
        read -r next <"$folder/next"
        tail -n +2 "$folder/next" >"$folder/rest"
        mv "$folder/rest" "$folder/next"
        traits="$own$next "
    }
    is works && sleep 0.05
    is crash && { echo "about to crash${API_KEY:+ with $API_KEY}" >&2; exit 7; }
    is garbage && say 'this is no message'
    is giant && { head -c 3000000 /dev/zero | tr '\0' x; say; }
    is log-json && say '{"level":"info","msg":"tool called"}'
    is log-brace && say '{ a line of a log that is never closed'
    is giant-word && { printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"'; head -c 3000000 /dev/zero | tr '\0' x; say '"}}'; }
    is string-id && { text "\"$id\"" quoted; return; }
    is pretty && { printf '{\n  "jsonrpc": "2.0",\n  "id": %s,\n  "result": {\n    "content": [\n      {}\n    ]\n  }\n}\n' "$id"; return; }
    is latin1 && { printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"caf\351"}]}}\n' "$id"; return; }
    is surrogate && { printf '%s\n' "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":\"no \\ud83d\"}]}}"; return; }
    is batch && { say "[{\"jsonrpc\":\"2.0\",\"id\":77777,\"result\":{}},{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[]}}]"; return; }
    is nan && { say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[],\"structuredContent\":{\"x\":NaN}}}"; return; }
    is twice && { text "$id" once; text "$id" again; return; }
    is wrong-id && { text 999999999 wrong; return; }
    is no-id && { say '{"jsonrpc":"2.0","result":{"content":[]}}'; return; }
    is error-no-id && { say '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no such thing"}}'; return; }
    is close-stdout && { exec >&-; sleep 30; }
    is chatty-hang && { for n in 1 2 3 4 5 6 7; do echo "call line $n" >&2; done; return; }
    is hang && return
    is internal-error && { refuse "$id" -32603 no; return; }
    is hang-once && [ ! -e "$folder/hung" ] && { : >"$folder/hung"; return; }
    is giant-answer && { printf '{"jsonrpc":"2.0","id":%s,"result":{"x":"' "$id"; head -c 3000000 /dev/zero | tr '\0' x; say '"}}'; return; }
    is giant-answer-id-last && { printf '{"result":{"x":"'; head -c 3000000 /dev/zero | tr '\0' x; say "\"},\"jsonrpc\":\"2.0\",\"id\":$id}"; return; }
    is stops-reading && sleep 300
    is progress && {
        say "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":$id,\"progress\":1}}"
        say '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}'
        say "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":$id,\"progress\":2}}"
    }
    is asks && {
        say '{"jsonrpc":"2.0","id":"p","method":"ping"}'
        read -r reply && note "reply $reply"
        say '{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}'
        read -r reply && note "reply $reply"
    }
    is reorder && {
        if [ -z "$held" ]; then held=$id; return; fi
        text "$id" second
        text "$held" first
        held=
        return
    }
    is echo-env && { text "$id" "$(env | sort | tr '\n' ' ')"; return; }
    text "$id" "$$ $calls"
}

note "start $$"
is chatty && for n in 1 2 3 4 5 6 7; do echo "start line $n" >&2; done
is ignores-term && trap '' TERM
is crash-at-start-while-broken && [ -e "$folder/broken" ] && traits="$traits crash-at-start "
is crash-at-start && { echo 'no licence found' >&2; exit 3; }
is grandchild && { sleep 300 & echo $! >"$folder/grandchild"; }
is never-reads && { sleep 300; exit; }
is banner && { say 'Welcome to the server!'; }
is slow && wait_for go
while IFS= read -r line; do
    id_of "$line"
    case $line in
    *'"method":"server/discover"'*)
        is dies-at-discover && exit 1
        is dies-at-first-discover && [ ! -e "$folder/died" ] && { : >"$folder/died"; exit 1; }
        spoilt=1
        is mute-at-discover && continue
        is late-at-discover && { held=$id; continue; }
        if is modern; then result "$id" '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'
        else refuse "$id" -32601 'Method not found'; fi ;;
    *'"method":"initialize"'*)
        note initialize
        is spoilt-by-discover && [ -n "$spoilt" ] && { echo 'no session for this stream' >&2; refuse "$id" -32600 'Invalid request: expected initialize'; continue; }
        is muted-by-discover && [ -n "$spoilt" ] && continue
        is late-at-discover && result "$held" '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'
        if is modern; then refuse "$id" -32601 'Method not found'
        else result "$id" '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"child","version":"1"}}'; fi ;;
    *'"method":"tools/list"'*)
        result "$id" '{"tools":[{"name":"echo","inputSchema":{"type":"object"},"annotations":{"idempotentHint":true}},{"name":"pay","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*) call ;;
    *'"method":"notifications/cancelled"'*) note cancelled ;;
    *'"method":"notifications/'*) ;;
    *) refuse "$id" -32601 'Method not found' ;;
    esac
done
note end
is ignores-term && sleep 300
exit 0
