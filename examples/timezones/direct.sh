#!/bin/sh
# The report's CSV without the orchestrator: direct.sh DATA_DIR OUT_DIR
#
# Written apart from the tasks and in another way, so that a test can hold one against the other.
set -eu
LC_ALL=C; export LC_ALL
[ $# -eq 2 ] || { echo "usage: $0 DATA_DIR OUT_DIR" >&2; exit 2; }
data=$1 out=$2
tab=$(printf '\t')
mkdir -p "$out"

# A line for each zone in each group: sort key, group, key, name, zone, country, solar offset. A country without zones
# has one with an empty zone.
lines() {
  grep -v '^#' "$data/zone1970.tab" | awk -F "$tab" -v iso="$data/iso3166.tab" '
    # Degrees of "+DDDMM" or "+DDDMMSS".
    function degrees(text,   d) { # the 1 in front: busybox takes a leading zero for octal
      d = ("1" substr(text, 2, 3)) - 1000 + (("1" substr(text, 5, 2)) - 100) / 60
      if (length(text) > 6) d += (("1" substr(text, 7)) - 100) / 3600
      return text ~ /^-/ ? -d : d
    }
    BEGIN { while ((getline line < iso) > 0) if (line !~ /^#/) { split(line, column, "\t"); name[column[1]] = column[2] } }
    {
      match($2, /[0-9][+-]/)
      offset = int((degrees(substr($2, RSTART + 1)) + 187.5) / 15) - 12
      n = split($1, code, ",")
      for (i = 1; i <= n; i++) {
        used[code[i]] = 1
        printf "0\ttotal\tworld\t\t%s\t%s\t%d\n", $3, code[i], offset
        printf "1%02d\toffset\tUTC%+d\t\t%s\t%s\t%d\n", offset + 12, offset, $3, code[i], offset
        printf "2%s\tcountry\t%s\t%s\t%s\t%s\t%d\n", code[i], code[i], name[code[i]], $3, code[i], offset
      }
    }
    END { for (c in name) if (!(c in used)) printf "2%s\tcountry\t%s\t%s\t\t%s\t\n", c, c, name[c], c }
  ' | sort
}

{
  echo group,key,name,zones,countries,solar_offset_min,solar_offset_max,zone_names
  lines | cut -f 2- | awk -F "$tab" -v OFS=, '
    function put() {
      if (key == "") return
      if (name ~ /[",]/) { gsub(/"/, "\"\"", name); name = "\"" name "\"" }
      print group, key, name, zones, countries, min, max, (group == "total" ? "" : names)
    }
    $1 "/" $2 != at {
      put()
      at = $1 "/" $2; group = $1; key = $2; name = $3
      zones = countries = 0; names = ""; min = max = $6; last = ""; split("", met)
    }
    $4 != "" && $4 != last { last = $4; names = names (zones++ ? " " : "") $4 }
    !met[$5]++ { countries++ }
    $6 != "" && $6 + 0 < min + 0 { min = $6 }
    $6 != "" && $6 + 0 > max + 0 { max = $6 }
    END { put() }
  '
} > "$out/timezone_report.csv.part"
mv "$out/timezone_report.csv.part" "$out/timezone_report.csv"
