"""Small programming tasks: Python, shell, SQL, regular expressions, explanations."""

from dante.teachers.prompts.family import Family

PYTHON = """returns the largest number in a list|counts the vowels in a string|reverses the words of a sentence
checks whether a string is a palindrome|returns the sum of the digits of an integer|removes duplicates from a list and keeps the order
converts Celsius to Fahrenheit|returns the factorial of n|tells whether a year is a leap year|merges two dictionaries
returns the n-th Fibonacci number|counts how often each word occurs in a text|flattens a list of lists|checks whether a number is prime
returns the second smallest value of a list|capitalises every word of a title|computes the average of a list of numbers
finds the longest word in a sentence|returns the common elements of two lists|removes all spaces from a string
rotates a list by k places|converts a number of seconds to hours, minutes and seconds|returns True if two words are anagrams
computes the area of a circle|sorts a list of tuples by the second item|replaces negative numbers in a list with zero
reads a text file and returns its number of lines|returns the even numbers of a list|counts the uppercase letters in a string
splits a list into chunks of size n|converts a binary string to an integer|returns the greatest common divisor of two numbers
checks whether all items of a list are equal|builds a dictionary from two lists|returns the initials of a full name
validates that a password has at least eight characters and a digit|multiplies all numbers of a list
returns the index of the first negative number or -1|converts a string to snake case|computes the distance between two points
returns the number of days between two dates|generates a random password of length n|reverses a dictionary's keys and values
inserts a hyphen between the letters of a word|returns the median of a list|counts the files in a folder
moves all zeros of a list to the end|finds the missing number in a list from 1 to n|truncates a text to n characters with three dots
groups words by their first letter|returns the last n lines of a file|checks whether brackets in a string are balanced
encodes a string with a Caesar cipher|computes compound interest|returns the transpose of a matrix
writes a list of rows to a CSV file|returns the most frequent item of a list|adds up two lists item by item
converts Roman numerals to integers|returns every third character of a string""".replace("\n", "|").split("|")

SHELL = """list all files larger than 10 MB in the current folder|count the lines in all .txt files|find files that changed today
replace the word foo with bar in a file|show the ten largest folders|delete all empty folders below the current one
extract a .tar.gz archive|show which process uses port 8080|rename all .jpeg files to .jpg|print the second column of a CSV file
sort a file and remove duplicate lines|show the free disk space|copy a folder to another machine with ssh|make a script executable
search for a word in all Python files|show the last 20 lines of a log and follow it|count the files in a folder
compress a folder into a zip file|find the number of CPU cores|download a file from a URL|show all environment variables
stop a process by its id|create a folder with the date of today as its name|compare two text files|convert a file to lower case
print lines 10 to 20 of a file|check whether a file exists|loop over all .csv files and print their names|change the owner of a file
schedule a script every day at 6 o'clock|show the commit history of a git repository in one line each|undo the last git commit but keep the changes
create a new git branch and switch to it|show hidden files|measure how long a command takes|split a large file into parts of 100 MB""".replace(
    "\n", "|"
).split("|")

SQL = """the five most expensive products|all customers from Rome|the number of orders per month|the average price per category
customers who never ordered anything|the total revenue of last year|products whose stock is below 10|the newest order of each customer
employees who earn more than their manager|all e-mail addresses that occur twice|the three departments with most employees
orders with more than five items|the names of students sorted by grade|books that were published before 1990
the oldest employee|all flights that leave after 18:00|the share of orders that were cancelled|movies with a rating above 8
the number of distinct cities|invoices that are not paid yet|the best-selling product|all rows of one table that are missing in another
the average age of the members|the total hours per project|songs that are longer than five minutes|teachers with no class
the difference between the highest and the lowest salary|orders placed on a weekend|users who logged in during the last week
the top three scores of each player""".replace("\n", "|").split("|")

SNIPPETS = """x = [i * i for i in range(5)]|d = {k: v for k, v in zip("abc", [1, 2, 3])}|print("a" * 3 + "b")|a, b = b, a
sorted(words, key=len, reverse=True)|for i, c in enumerate("hey"): print(i, c)|total = sum(x for x in values if x > 0)
with open("log.txt") as f: print(f.readline())|name = input() or "guest"|text.strip().lower().split(",")
lambda n: n % 2 == 0|assert len(items) == len(set(items))|while n > 1: n = n // 2|any(x < 0 for x in numbers)
matrix = [[0] * 3 for _ in range(3)]|print(f"{price:.2f} euros")|counts[word] = counts.get(word, 0) + 1
numbers[::-1]|numbers[-1]|try: int(s)\\nexcept ValueError: print("no number")|max(scores, key=scores.get)
import random; random.shuffle(cards)|list(map(str.upper, names))|if not items: return None|print(*names, sep=", ")
"-".join(reversed("abc"))|set(a) & set(b)|def f(*args, **kwargs): return len(args) + len(kwargs)
first, *rest = [1, 2, 3, 4]|round(10 / 3, 2)|[w for w in words if w.startswith("s")]|isinstance(value, (int, float))
os.path.join("data", "file.csv")|dict(sorted(d.items()))|all(c.isdigit() for c in code)|next(x for x in numbers if x > 10)""".replace(
    "\n", "|"
).split("|")

BUGS = """def add(a, b):\\n    print(a + b)\\nresult = add(1, 2) * 2|for i in range(len(items)):\\n    print(items[i + 1])
if x = 5:\\n    print("five")|def area(r):\\n    return 3.14 * r * 2|count = "3"\\ntotal = count + 1
def last(items):\\n    return items[len(items)]|while True:\\n    n = n - 1|names = ["Ann", "Bob"]\\nprint(names[2])
def mean(xs):\\n    return sum(xs) / len(x)|print("Hello" + 5)|def greet(name)\\n    print("Hi", name)
x = 10\\nif x > 5:\\nprint("big")|d = {"a": 1}\\nprint(d["b"])|def square(x):\\n    x * x|import maths\\nprint(maths.sqrt(4))
for n in 5:\\n    print(n)|numbers = (3, 1, 2)\\nnumbers.sort()|text = "abc"\\ntext[0] = "x"
def is_even(n):\\n    return n % 2 == 1|def total(xs=[]):\\n    xs.append(1)\\n    return sum(xs)|open("data.txt", "w").read()
return_value = None\\nprint(return_value.upper())|x = int("12a")|a = [1, 2, 3]\\nb = a\\nb.append(4)\\n# a should stay unchanged
while i < 10:\\n    print(i)|def f(n):\\n    return n * f(n - 1)|print(undefined_name)|if age > 18 and < 65:\\n    print("adult")
result = [1, 2] + 3|def max3(a, b, c):\\n    if a > b:\\n        return a\\n    return b""".replace("\n", "|").split(
    "|"
)

CONCEPTS = """a variable|a function|recursion|a list and a tuple in Python|an API|version control|a unit test|a database index
a primary key|object-oriented programming|an exception|a stack and a queue|big O notation|a hash table|a loop|a compiler
an operating system|a web server|HTML and CSS|a cookie in the browser|encryption|open-source software|a virtual machine
a firewall|cloud storage|JSON|a regular expression|a pointer|multithreading|garbage collection|a foreign key|caching
a pull request|binary search|a Boolean value|machine learning""".replace("\n", "|").split("|")

PATTERNS = """an e-mail address|a date such as 2024-05-31|a phone number with ten digits|a hexadecimal colour|a postcode of five digits
a time such as 14:30|a word that starts with a capital letter|an IPv4 address|a price such as $12.99|a line that ends with a comma
two or more spaces in a row|a Python comment|a hashtag|a number with two decimals|text between quotation marks|a file name that ends in .png
a URL|a word that is repeated""".replace("\n", "|").split("|")

WEB = """a button that changes its colour when it is clicked|a table with two rows and three columns|a centred heading
a link that opens in a new tab|an input field for a name|an ordered list of three items|a drop-down menu with three choices
a red box with round corners|a responsive image|a footer with a copyright line|a function that adds two numbers
a counter that goes up every second|a check that a form field is not empty|an array filter that keeps even numbers
a greeting that depends on the time of day|a list sorted by price|a toggle for dark mode|a loop over the keys of an object
a random number between 1 and 6|a string that is reversed|a grid with three columns|a tooltip on hover
a fetch request that prints JSON|a date in the format day.month.year""".replace("\n", "|").split("|")

FAMILIES = [
    Family(
        "python_function",
        "code",
        "en",
        [
            "Write a Python function that {}. Code only.",
            "Write a short Python function that {}, with one line that shows how to call it.",
            "How would you write a Python function that {}? Keep it under ten lines.",
            "Complete the task in Python: a function that {}. Add a docstring of one line.",
            "In Python, write a function with type hints that {}.",
            "Describe in two sentences how a function that {} could work. No code.",
            "Write two assert statements that test a Python function which {}.",
            "Suggest a good name and a docstring for a Python function that {}.",
            "I am learning Python. Show me the simplest function that {}.",
            "Write a JavaScript function that {}. Code only.",
            "Write a Python one-liner, or the shortest code you can, that {}.",
        ],
        PYTHON,
        rounds=2,
    ),
    Family(
        "shell",
        "code",
        "en",
        [
            "Which Linux command do I use to {}?",
            "Give me a bash one-liner to {}.",
            "How can I {} in the terminal? Show the command and explain it in one sentence.",
            "Bash: {}. Answer with the command only.",
        ],
        SHELL,
    ),
    Family(
        "sql",
        "code",
        "en",
        [
            "Write an SQL query that returns {}.",
            "Invent suitable table and column names and write an SQL query for {}. Query only.",
            "How do I find {} with SQL? Show the query and explain it in one sentence.",
        ],
        SQL,
    ),
    Family(
        "explain_code",
        "code",
        "en",
        [
            "What does this Python code do?\n```python\n{}\n```",
            "Explain this line to a beginner in one or two sentences: `{}`",
            "Describe the result of `{}` in Python.",
            "Write a short comment for this code:\n```python\n{}\n```",
        ],
        [s.replace("\\n", "\n") for s in SNIPPETS],
    ),
    Family(
        "fix_bug",
        "code",
        "en",
        [
            "Find the bug and fix it:\n```python\n{}\n```",
            "This Python code does not work as intended. Why? Answer briefly.\n```python\n{}\n```",
            "Correct this code and explain the change in one sentence.\n```python\n{}\n```",
        ],
        [s.replace("\\n", "\n") for s in BUGS],
    ),
    Family(
        "code_concept",
        "code",
        "en",
        [
            "Explain {} to a new programmer in two sentences.",
            "What is the purpose of {} in computing?",
            "Give an everyday analogy for {}.",
            "Name one advantage and one pitfall of {}.",
        ],
        CONCEPTS,
    ),
    Family(
        "regex",
        "code",
        "en",
        [
            "Write a regular expression that matches {}.",
            "Which regex finds {}? Explain its parts briefly.",
        ],
        PATTERNS,
    ),
    Family(
        "web",
        "code",
        "en",
        [
            "Show minimal HTML, CSS or JavaScript for {}.",
            "I am building a web page. How do I make {}? Short code, please.",
        ],
        WEB,
    ),
]
