# bash completion of cm_ctl, made from its table of options

_cm_ctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} action= words= i
	# --option=value is three words
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		start | stop | restart | reload | status | doctor | forget | drain | undrain | events | genkey)
			action=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	COMPREPLY=()
	case $action:$prev in
	:-D | :--directory | start:-D | start:--directory | stop:-D | stop:--directory | restart:-D | restart:--directory | reload:-D | reload:--directory | status:-D | status:--directory | doctor:-D | doctor:--directory | forget:-D | forget:--directory | drain:-D | drain:--directory | undrain:-D | undrain:--directory | events:-D | events:--directory)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	:-t | :--timeout | start:-t | start:--timeout | stop:-t | stop:--timeout | restart:-t | restart:--timeout | reload:-t | reload:--timeout | status:-t | status:--timeout | doctor:-t | doctor:--timeout | forget:-t | forget:--timeout | drain:-t | drain:--timeout | undrain:-t | undrain:--timeout | events:-t | events:--timeout)
		return
		;;
	:-l | :--log | start:-l | start:--log | restart:-l | restart:--log)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	:-m | :--mode | stop:-m | stop:--mode | restart:-m | restart:--mode)
		mapfile -t COMPREPLY < <(compgen -W 'smart fast immediate' -- "$cur")
		return
		;;
	:-i | :--items | status:-i | status:--items)
		mapfile -t COMPREPLY < <(compgen -W 'all instance application' -- "$cur")
		return
		;;
	:--check | status:--check)
		mapfile -t COMPREPLY < <(compgen -W 'primary all any' -- "$cur")
		return
		;;
	:-d | :--dbname | doctor:-d | doctor:--dbname)
		return
		;;
	:-i | :--instance | forget:-i | forget:--instance)
		return
		;;
	:-i | :--instance | drain:-i | drain:--instance | undrain:-i | undrain:--instance)
		return
		;;
	esac
	case $action in
	'') words='start stop restart reload status doctor forget drain undrain events genkey -D --directory -t --timeout -w --wait -W --no-wait -V --version -? --help -l --log --complete -m --mode -i --items --json --check --watch -d --dbname --instance --yes -f --follow' ;;
	start) words='-D --directory -t --timeout -W --no-wait -V --version -? --help -l --log --complete' ;;
	stop) words='-D --directory -t --timeout -W --no-wait -V --version -? --help -m --mode' ;;
	restart) words='-D --directory -t --timeout -W --no-wait -V --version -? --help -l --log --complete -m --mode' ;;
	reload) words='-D --directory -t --timeout -W --no-wait -V --version -? --help' ;;
	status) words='-D --directory -t --timeout -V --version -? --help -i --items --json --check --watch' ;;
	doctor) words='-D --directory -t --timeout -V --version -? --help -d --dbname --json' ;;
	forget) words='-D --directory -t --timeout -V --version -? --help -i --instance --yes' ;;
	drain) words='-D --directory -t --timeout -w --wait -V --version -? --help -i --instance' ;;
	undrain) words='-D --directory -t --timeout -V --version -? --help -i --instance' ;;
	events) words='-D --directory -t --timeout -V --version -? --help -f --follow --json' ;;
	genkey) words='-V --version -? --help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _cm_ctl cm_ctl
